//! Response bodies that track delivery: their bytes stay reserved until they are written, and they are sent in parts so
//! that progress is visible to the stall timeout.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::Response;
use hyper::StatusCode;
use hyper::body::{Body, Frame, SizeHint};
use hyper::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};

use super::budget::Reservation;
use super::connection::OpenRequest;

/// Bytes of a response that are handed to hyper at a time.
const PART_BYTES: usize = 64 << 10;

/// A response body. Its reservation is held for as long as any of its bytes are in this process.
pub(super) struct Answer<B> {
    inner: Option<B>,
    rest: Bytes,
    delivery: Arc<Delivery>,
}

/// What is released when the response has been written.
struct Delivery {
    open: OpenRequest,
    _reservation: Option<Reservation>,
}

/// A part of a response that has not been written yet.
struct Part {
    bytes: Bytes,
    delivery: Arc<Delivery>,
}

// === impl Answer ===

impl<B: Body<Data = Bytes, Error = Infallible> + Unpin> Answer<B> {
    /// Wraps a response and counts its reserved bytes as unsent.
    pub(super) fn reply(
        reply: Response<B>,
        open: OpenRequest,
        reservation: Option<Reservation>,
    ) -> Response<Answer<B>> {
        open.answer(reservation.as_ref().map_or(0, Reservation::amount));
        let delivery = Arc::new(Delivery { open, _reservation: reservation });
        reply.map(|body| Answer { inner: Some(body), rest: Bytes::new(), delivery })
    }

    /// Returns a 503 response for a request that is rejected because too many response bytes are unread.
    pub(super) fn refused(open: OpenRequest, text: &'static str) -> Response<Answer<B>> {
        let rest = Bytes::from_static(text.as_bytes());
        open.answer(rest.len());
        let delivery = Arc::new(Delivery { open, _reservation: None });
        let mut reply = Response::new(Answer { inner: None, rest, delivery });
        *reply.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        reply.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        reply
    }
}

impl<B: Body<Data = Bytes, Error = Infallible> + Unpin> Body for Answer<B> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.rest.is_empty() {
            let Some(inner) = &mut self.inner else { return Poll::Ready(None) };
            match Pin::new(inner).poll_frame(cx) {
                Poll::Pending => {
                    self.delivery.open.record_part_awaited();
                    return Poll::Pending;
                }
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => self.rest = data,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                Poll::Ready(None) => return Poll::Ready(None),
            }
        }
        let length = self.rest.len().min(PART_BYTES);
        let part = Part { bytes: self.rest.split_to(length), delivery: self.delivery.clone() };
        self.delivery.open.record_part_queued();
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_owner(part)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let mut hint = self.inner.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint);
        let rest = self.rest.len() as u64;
        // The upper bound goes first: the lower bound must never exceed it.
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper + rest);
        }
        hint.set_lower(hint.lower() + rest);
        hint
    }
}

// === impl Part ===

impl AsRef<[u8]> for Part {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.delivery.open.record_part_written();
    }
}
