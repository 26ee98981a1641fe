//! The HTTP engine, on a thread of its own: plain requests in, plain answers out. It knows neither
//! PostgreSQL nor what it transports, and retries nothing: that is the queue's business.

use std::io::{Read as _, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::mpsc;
use std::time::Duration;

use integration_engine::wire::{Method, Reply, Request, TransportError};
use tokio::sync::mpsc as queue;

use crate::pg::clock::Stopwatch;
use crate::secret::Secret;

/// Larger answers are refused: a full batch answer has well under 1 MB.
const LARGEST_ANSWER: usize = 16 * 1024 * 1024;

/// How often an idle connection is checked.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// A request, with everything needed to send it.
pub struct Outgoing {
    /// The caller's id for it; the answer carries it, too.
    pub id: u64,
    pub base_url: String,
    /// The value of the header `Authorization`; `None`: the credential is in the body.
    pub credential: Option<Secret>,
    pub request: Request,
    /// A body with secrets, in place of the request's own.
    pub secret_body: Option<SecretBody>,
    pub timeout: Duration,
}

/// A body that must not be shown.
pub enum SecretBody {
    /// `application/x-www-form-urlencoded`
    Form(Secret),
    Json(Secret),
}

/// What became of a request.
pub struct Answer {
    pub id: u64,
    pub result: Result<Reply, TransportError>,
    pub duration: Duration,
}

/// How to reach the services.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Network {
    pub proxy: Option<String>,
    pub ca_file: Option<String>,
}

/// Returns a client that reaches the services that way.
pub struct Client(reqwest::Client);

impl Client {
    /// The error names the setting that is wrong.
    pub fn new(network: &Network) -> Result<Client, String> {
        client(network).map(Client)
    }
}

/// The running engine. Dropping it ends its thread, and every request under way.
pub struct HttpClient {
    outgoing: Option<queue::UnboundedSender<Outgoing>>,
    answers: mpsc::Receiver<Answer>,
    bell: UnixStream,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl HttpClient {
    /// Starts the thread. All signals must be blocked; the thread inherits that.
    pub fn start(Client(client): Client) -> Result<HttpClient, String> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|why| format!("no runtime: {why}"))?;
        let (bell, ringer) = UnixStream::pair().map_err(|why| format!("no socket pair: {why}"))?;
        bell.set_nonblocking(true)
            .and_then(|()| ringer.set_nonblocking(true))
            .map_err(|why| format!("socket pair: {why}"))?;
        let (outgoing, requests) = queue::unbounded_channel();
        let (results, answers) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("integration http".to_owned())
            .spawn(move || {
                runtime.block_on(serve(client, requests, results, ringer.into()));
                // The look-up of a host name cannot be interrupted: nobody waits for it.
                runtime.shutdown_background();
            })
            .map_err(|why| format!("no thread: {why}"))?;
        Ok(HttpClient {
            outgoing: Some(outgoing),
            answers,
            bell,
            thread: Some(thread),
        })
    }

    /// Hands a request over; returns `false` if the thread has died.
    pub fn send(&self, request: Outgoing) -> bool {
        self.outgoing
            .as_ref()
            .is_some_and(|outgoing| outgoing.send(request).is_ok())
    }

    /// Returns the next answer that has come in.
    pub fn answer(&self) -> Option<Answer> {
        self.answers.try_recv().ok()
    }

    /// Returns a socket that becomes readable when an answer has come in; see
    /// [`HttpClient::drain_wakeups`].
    pub fn socket(&self) -> i32 {
        self.bell.as_raw_fd()
    }

    /// Empties the socket, before answers are taken.
    pub fn drain_wakeups(&self) {
        let mut bytes = [0; 256];
        while matches!((&self.bell).read(&mut bytes), Ok(256)) {}
    }
}

impl Drop for HttpClient {
    fn drop(&mut self) {
        self.outgoing = None;
        if let Some(thread) = self.thread.take() {
            // It ends at once: `serve` returns when the channel is closed, and drops its tasks.
            let _ = thread.join();
        }
    }
}

fn client(network: &Network) -> Result<reqwest::Client, String> {
    // A second installation in one process is refused, which does no harm.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!(
            "integration/",
            env!("CARGO_PKG_VERSION"),
            " (PostgreSQL)"
        ))
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(Duration::from_secs(10))
        .pool_idle_timeout(Duration::from_secs(50))
        .tcp_nodelay(true)
        // An answer may take long; this finds out sooner that the other side is gone.
        .tcp_keepalive(KEEPALIVE)
        .tcp_keepalive_interval(KEEPALIVE)
        .tcp_keepalive_retries(2)
        .tcp_user_timeout(3 * KEEPALIVE)
        .no_proxy();
    if let Some(proxy) = &network.proxy {
        let proxy = reqwest::Proxy::all(proxy)
            .map_err(|_| "integration.http_proxy is not a proxy's URL".to_owned())?;
        builder = builder.proxy(proxy);
    }
    if let Some(file) = &network.ca_file {
        let pem =
            std::fs::read(file).map_err(|why| format!("integration.ca_file {file}: {why}"))?;
        let certificates = reqwest::Certificate::from_pem_bundle(&pem)
            .map_err(|why| format!("integration.ca_file {file}: {why}"))?;
        if certificates.is_empty() {
            return Err(format!(
                "integration.ca_file {file}: there is no certificate in it"
            ));
        }
        builder = builder.tls_certs_merge(certificates);
    }
    builder
        .build()
        .map_err(|why| format!("no HTTP client: {why}"))
}

async fn serve(
    client: reqwest::Client,
    mut requests: queue::UnboundedReceiver<Outgoing>,
    results: mpsc::Sender<Answer>,
    ringer: OwnedFd,
) {
    let ringer = std::sync::Arc::new(UnixStream::from(ringer));
    while let Some(outgoing) = requests.recv().await {
        let (client, results, ringer) = (client.clone(), results.clone(), ringer.clone());
        tokio::spawn(async move {
            let watch = Stopwatch::start();
            let id = outgoing.id;
            let result = exchange(&client, outgoing).await;
            // Sending fails only when the worker is gone.
            let _ = results.send(Answer {
                id,
                result,
                duration: watch.elapsed(),
            });
            // A full pipe is readable already.
            let _ = (&*ringer).write(&[1]);
        });
    }
}

async fn exchange(client: &reqwest::Client, outgoing: Outgoing) -> Result<Reply, TransportError> {
    let timeout = outgoing.timeout;
    let url = format!("{}{}", outgoing.base_url, outgoing.request.path);
    let method = match outgoing.request.method {
        Method::Get => reqwest::Method::GET,
        Method::Post => reqwest::Method::POST,
        Method::Put => reqwest::Method::PUT,
        Method::Patch => reqwest::Method::PATCH,
        Method::Delete => reqwest::Method::DELETE,
    };
    let mut request = client.request(method, url).timeout(timeout);
    if let Some(credential) = &outgoing.credential {
        request = request.bearer_auth(credential.reveal());
    }
    const JSON: &str = "application/json";
    let body = match outgoing.secret_body {
        Some(SecretBody::Form(form)) => Some((
            "application/x-www-form-urlencoded",
            form.reveal().as_bytes().to_vec(),
        )),
        Some(SecretBody::Json(json)) => Some((JSON, json.reveal().as_bytes().to_vec())),
        None => outgoing.request.body.map(|body| (JSON, body)),
    };
    if let Some((kind, body)) = body {
        request = request.header("content-type", kind).body(body);
    }
    let mut response = request
        .send()
        .await
        .map_err(|error| failure(&error, timeout))?;
    let headers = response
        .headers()
        .iter()
        .filter_map(|(name, value)| {
            Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned()))
        })
        .collect();
    let status = response.status().as_u16();
    let mut body = Vec::new();
    while let Some(part) = response
        .chunk()
        .await
        .map_err(|error| failure(&error, timeout))?
    {
        if body.len() + part.len() > LARGEST_ANSWER {
            return Err(TransportError::TooLarge(LARGEST_ANSWER));
        }
        body.extend_from_slice(&part);
    }
    Ok(Reply {
        status,
        headers,
        body,
    })
}

fn failure(error: &reqwest::Error, timeout: Duration) -> TransportError {
    if error.is_timeout() {
        TransportError::Timeout(timeout)
    } else if error.is_connect() {
        TransportError::Connect(root_cause(error))
    } else {
        TransportError::Lost(root_cause(error))
    }
}

/// Returns the innermost cause: the outer ones repeat the URL, which belongs in no log.
fn root_cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
