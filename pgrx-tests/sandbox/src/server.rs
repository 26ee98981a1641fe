//! The HTTP server: two ports, one thread, keep-alive, and connections that can be broken.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming as IncomingBody;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use crate::config::Service;
use crate::control;
use crate::reply::{Cut, Reply, ReplyBody};
use crate::world::{Incoming, Outcome, World};

/// Larger requests are refused; a batch of 500 members is far smaller.
const MAX_BODY: usize = 16 << 20;

/// The world and the way to the server thread.
#[derive(Debug, Clone)]
pub(crate) struct Shared {
    world: Arc<Mutex<World>>,
    pub commands: mpsc::UnboundedSender<Command>,
}

/// What the server thread is told.
#[derive(Debug)]
pub(crate) enum Command {
    /// Close a port and its connections.
    Down(Service, oneshot::Sender<()>),
    /// Open it again.
    Up(Service, oneshot::Sender<io::Result<()>>),
    Stop,
}

impl Shared {
    pub(crate) fn new(world: World, commands: mpsc::UnboundedSender<Command>) -> Self {
        Self {
            world: Arc::new(Mutex::new(world)),
            commands,
        }
    }

    /// A panic while the lock is held fails the test that caused it; others can go on.
    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Opens a port in a way that it can be opened again right after it was closed.
pub(crate) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(1_024)
}

/// One port: its address, and the tasks that serve it while it is up.
struct Port {
    service: Service,
    address: SocketAddr,
    tasks: Option<JoinSet<()>>,
}

/// Serves until told to stop.
pub(crate) async fn run(
    shared: Shared,
    listeners: [(Service, TcpListener, SocketAddr); 2],
    mut commands: mpsc::UnboundedReceiver<Command>,
) {
    let mut ports = listeners.map(|(service, listener, address)| Port {
        service,
        address,
        tasks: Some(serve(&shared, service, listener)),
    });
    let mut background = JoinSet::new();
    background.spawn(crate::post::deliver(shared.clone()));
    while let Some(command) = commands.recv().await {
        match command {
            Command::Down(service, done) => {
                for port in ports.iter_mut().filter(|port| port.service == service) {
                    if let Some(mut tasks) = port.tasks.take() {
                        tasks.shutdown().await;
                    }
                }
                // Nobody may be waiting any more, and that is fine.
                let _ = done.send(());
            }
            Command::Up(service, done) => {
                let _ = done.send(up(&shared, &mut ports, service));
            }
            Command::Stop => break,
        }
    }
    for port in &mut ports {
        if let Some(mut tasks) = port.tasks.take() {
            tasks.shutdown().await;
        }
    }
}

fn up(shared: &Shared, ports: &mut [Port], service: Service) -> io::Result<()> {
    for port in ports
        .iter_mut()
        .filter(|port| port.service == service && port.tasks.is_none())
    {
        port.tasks = Some(serve(shared, service, listen(port.address)?));
    }
    Ok(())
}

/// Accepts connections; dropping the set closes the port and all of them.
fn serve(shared: &Shared, service: Service, listener: TcpListener) -> JoinSet<()> {
    let shared = shared.clone();
    let mut port = JoinSet::new();
    port.spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept() => {
                    let Ok((stream, _)) = accepted else { continue };
                    // Answers are small and written at once: no waiting for more.
                    let _ = stream.set_nodelay(true);
                    connections.spawn(connection(shared.clone(), service, stream));
                }
                Some(_) = connections.join_next() => {}
            }
        }
    });
    port
}

async fn connection(shared: Shared, service: Service, stream: tokio::net::TcpStream) {
    let answering = service_fn(move |request| answer(shared.clone(), service, request));
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .pipeline_flush(true)
        .serve_connection(TokioIo::new(stream), answering)
        .await;
    // Clients and faults break connections; that is no news.
    drop(served);
}

/// Ends the connection without an answer.
#[derive(Debug)]
struct NoAnswer;

impl std::fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("connection closed by a fault")
    }
}

impl std::error::Error for NoAnswer {}

/// Counts a request as in flight for as long as it lives, whatever ends it.
struct InFlight {
    shared: Shared,
    service: Service,
}

impl InFlight {
    fn new(shared: Shared, service: Service) -> Self {
        shared.world().enter(service);
        Self { shared, service }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.shared.world().leave(self.service);
    }
}

async fn answer(
    shared: Shared,
    port: Service,
    request: Request<IncomingBody>,
) -> Result<Response<ReplyBody>, NoAnswer> {
    let arrived = Instant::now();
    let (head, body) = request.into_parts();
    let path = head.uri.path();
    if path.starts_with("/_sandbox") {
        let body = read(body).await?;
        let reply =
            control::answer(&shared, head.method.as_str(), path, head.uri.query(), &body).await;
        return Ok(respond(reply, false));
    }
    // Either port serves both services; the paths tell them apart.
    let service = match path {
        path if path.starts_with("/3.0") || path.starts_with("/mailchimp/3.0") => {
            Service::Mailchimp
        }
        path if path.starts_with("/crm")
            || path.starts_with("/oauth")
            || path.starts_with("/account-info") =>
        {
            Service::HubSpot
        }
        _ => port,
    };
    let in_flight = InFlight::new(shared.clone(), service);
    let body = read(body).await?;
    let Outcome { reply, cut, delay } = shared.world().handle(&Incoming {
        service,
        method: head.method.as_str(),
        path,
        query: head.uri.query(),
        authorization: head
            .headers
            .get(AUTHORIZATION)
            .and_then(|value| value.to_str().ok()),
        body: &body,
        arrived,
    });
    if !delay.is_zero() {
        let work = async move {
            tokio::time::sleep(delay).await;
            drop(in_flight);
        };
        match service {
            // Mailchimp: a request that the client gives up goes on, and keeps its connection.
            Service::Mailchimp => {
                // An error means that the server stops.
                let _ = tokio::spawn(work).await;
            }
            Service::HubSpot => work.await,
        }
    }
    match cut {
        Cut::Nothing => Err(NoAnswer),
        Cut::Half => Ok(respond(reply, true)),
        Cut::Whole => Ok(respond(reply, false)),
    }
}

async fn read(body: IncomingBody) -> Result<bytes::Bytes, NoAnswer> {
    let collected = Limited::new(body, MAX_BODY)
        .collect()
        .await
        .map_err(|_| NoAnswer)?;
    Ok(collected.to_bytes())
}

fn respond(reply: Reply, half: bool) -> Response<ReplyBody> {
    let mut response = Response::new(ReplyBody::new(reply.body, half));
    *response.status_mut() =
        StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    if !reply.content_type.is_empty() {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(reply.content_type));
    }
    for (name, value) in reply.headers {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.append(HeaderName::from_static(name), value);
        }
    }
    response
}
