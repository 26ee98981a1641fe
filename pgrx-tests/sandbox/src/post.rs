//! Delivers webhooks by HTTP, if the configuration asks for it.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::clock::Now;
use crate::config::Service;
use crate::delivery::Delivery;
use crate::server::Shared;

/// How often waiting events are looked for; HubSpot and Mailchimp gather them for a while too.
const EVERY: Duration = Duration::from_millis(20);

/// HubSpot retries up to 10 times; the spacing is much shorter here so that tests can wait.
const ATTEMPTS: u32 = 10;

/// Runs for as long as the server does.
pub(crate) async fn deliver(shared: Shared) {
    let mut under_way = JoinSet::new();
    loop {
        tokio::time::sleep(EVERY).await;
        while under_way.try_join_next().is_some() {}
        for delivery in due(&shared) {
            under_way.spawn(until_taken(delivery));
        }
    }
}

fn due(shared: &Shared) -> Vec<Delivery> {
    let mut world = shared.world();
    let now = Now::read().wall;
    let mut due = Vec::new();
    if world.config.hubspot.webhook_post {
        due.extend(world.hubspot.take_webhooks(now));
    }
    if world.config.mailchimp.webhook_post {
        due.extend(world.mailchimp.outgoing.take(now));
    }
    due
}

async fn until_taken(delivery: Delivery) {
    for attempt in 0..ATTEMPTS {
        // HubSpot waits 5 seconds for an answer, Mailchimp 10.
        let patience = Duration::from_secs(if delivery.service == Service::HubSpot {
            5
        } else {
            10
        });
        if let Ok(Some(200..=299)) = tokio::time::timeout(patience, post(&delivery)).await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100) * 2_u32.pow(attempt)).await;
    }
}

/// The status that the receiver answered with.
async fn post(delivery: &Delivery) -> Option<u16> {
    let uri: Uri = delivery.uri.parse().ok()?;
    let authority = uri.authority()?.as_str();
    let stream = TcpStream::connect((uri.host()?, uri.port_u16().unwrap_or(80)))
        .await
        .ok()?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .ok()?;
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let mut request = Request::post(path).header("host", authority);
    for (name, value) in &delivery.headers {
        request = request.header(name, value);
    }
    let request = request
        .body(Full::new(Bytes::from(delivery.body.clone())))
        .ok()?;
    let exchange = async {
        let answer = sender.send_request(request).await.ok()?;
        let status = answer.status().as_u16();
        // Read to the end, so that the receiver does not see a broken connection.
        answer.into_body().collect().await.ok()?;
        Some(status)
    };
    tokio::select! {
        status = exchange => status,
        _ = connection => None,
    }
}
