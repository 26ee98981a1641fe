//! An answer, before it is put on the wire.

use std::borrow::Cow;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use serde::Serialize;

use crate::json;

/// Status, headers and body of an answer.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub status: u16,
    pub content_type: &'static str,
    pub headers: Vec<(&'static str, Cow<'static, str>)>,
    pub body: Vec<u8>,
}

impl Reply {
    pub(crate) fn json(status: u16, body: Vec<u8>) -> Self {
        Self {
            status,
            content_type: "application/json;charset=utf-8",
            headers: Vec::new(),
            body,
        }
    }

    pub(crate) fn value<T: Serialize + ?Sized>(status: u16, value: &T) -> Self {
        let mut body = Vec::new();
        json::push(&mut body, value);
        Self::json(status, body)
    }

    /// 204 and the like.
    pub(crate) fn empty(status: u16) -> Self {
        Self {
            status,
            content_type: "",
            headers: Vec::new(),
            body: Vec::new(),
        }
    }

    /// What a proxy in front of the service says.
    pub(crate) fn html(status: u16) -> Self {
        let body = format!(
            "<html><head><title>{status}</title></head><body><h1>{status}</h1></body></html>"
        );
        Self {
            status,
            content_type: "text/html",
            headers: Vec::new(),
            body: body.into_bytes(),
        }
    }

    pub(crate) fn with(mut self, name: &'static str, value: impl Into<Cow<'static, str>>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// How much of an answer reaches the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    Whole,
    /// Half of the body, then the connection closes.
    Half,
    /// The connection closes without an answer.
    Nothing,
}

/// A body that is sent whole, or announces its length and stops half-way.
pub(crate) struct ReplyBody {
    rest: Bytes,
    announced: u64,
    state: Sending,
}

enum Sending {
    Whole,
    Half,
    Flush,
    Break,
}

impl ReplyBody {
    pub(crate) fn new(body: Vec<u8>, half: bool) -> Self {
        let announced = body.len() as u64;
        let state = if half && announced > 1 {
            Sending::Half
        } else {
            Sending::Whole
        };
        Self {
            rest: Bytes::from(body),
            announced,
            state,
        }
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match self.state {
            Sending::Whole => {
                let all = std::mem::take(&mut self.rest);
                Poll::Ready((!all.is_empty()).then(|| Ok(Frame::data(all))))
            }
            Sending::Half => {
                self.state = Sending::Flush;
                let half = self.rest.len() / 2;
                Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(half)))))
            }
            // One idle turn lets the connection write out the first half before it breaks.
            Sending::Flush => {
                self.state = Sending::Break;
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Sending::Break => Poll::Ready(Some(Err(std::io::Error::other("cut off by a fault")))),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.state, Sending::Whole) && self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        match self.state {
            Sending::Whole => SizeHint::with_exact(self.rest.len() as u64),
            _ => SizeHint::with_exact(self.announced),
        }
    }
}
