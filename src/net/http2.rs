//! The settings of HTTP/2 connections: how much a peer may send before it is read, depending on the memory that is left.

use std::net::IpAddr;

use hyper_util::rt::TokioExecutor;
use hyper_util::server::conn::auto;

use super::budget::{Budget, Reservation};

/// Memory that one request uses besides its body and its response body: the decoded head and the response head.
const REQUEST_BYTES: u32 = 16 << 10;
/// Stream window: bytes of one request that a peer may send before the handler reads them. Most batches are smaller, so that
/// their sender never waits for a window update, each of which has a cost.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
/// The default window size of HTTP/2.
const DEFAULT_WINDOW_BYTES: u32 = (64 << 10) - 1;
/// The levels, largest first. Each connection gets the first one whose memory can be reserved; the last one is used without a
/// reservation.
const LEVELS: [Http2Settings; 4] = [
    Http2Settings { streams: 128, stream_window: STREAM_WINDOW_BYTES, window: 2 * STREAM_WINDOW_BYTES },
    Http2Settings { streams: 128, stream_window: STREAM_WINDOW_BYTES / 4, window: STREAM_WINDOW_BYTES / 2 },
    Http2Settings { streams: 32, stream_window: DEFAULT_WINDOW_BYTES, window: DEFAULT_WINDOW_BYTES },
    Http2Settings { streams: 4, stream_window: DEFAULT_WINDOW_BYTES, window: DEFAULT_WINDOW_BYTES },
];

/// The memory-relevant settings of one HTTP/2 connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Http2Settings {
    /// Maximum number of concurrent streams.
    streams: u32,
    /// Flow-control window of one stream, in bytes.
    stream_window: u32,
    /// Flow-control window of the whole connection, in bytes.
    window: u32,
}

// === impl Http2Settings ===

impl Http2Settings {
    /// The largest settings.
    pub(super) const LARGEST: Http2Settings = LEVELS[0];

    /// Returns the largest settings whose memory this client can still reserve, with the reservation.
    pub(super) fn reserve(budget: &Budget, client: IpAddr) -> (Http2Settings, Option<Reservation>) {
        let reserved = LEVELS.iter().find_map(|level| Some((*level, Some(budget.reserve(client, level.bytes())?))));
        reserved.unwrap_or((LEVELS[LEVELS.len() - 1], None))
    }

    /// Returns the maximum number of bytes that the connection can use.
    fn bytes(&self) -> usize {
        (self.window + self.frame() + self.streams * REQUEST_BYTES) as usize
    }

    /// Returns the maximum size of a frame. A frame is kept in memory until all of it has arrived. The default frames are small, and
    /// each frame has a cost.
    fn frame(&self) -> u32 {
        (self.stream_window / 4).max(16 << 10)
    }

    pub(super) fn apply(self, builder: &mut auto::Builder<TokioExecutor>) {
        builder
            .http2()
            .max_concurrent_streams(self.streams)
            .initial_stream_window_size(self.stream_window)
            .initial_connection_window_size(self.window)
            .max_frame_size(self.frame());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_get_smaller_windows_as_memory_runs_short() {
        let client = IpAddr::from([192, 0, 2, 1]);
        let sum = LEVELS.iter().map(Http2Settings::bytes).sum();
        let budget = Budget::new(sum, sum);
        let connections: Vec<_> = (0..6).map(|_| Http2Settings::reserve(&budget, client)).collect();
        let levels: Vec<_> = connections.iter().map(|(settings, _)| *settings).collect();
        let [largest, second, third, smallest] = LEVELS;
        assert_eq!(levels, [largest, second, third, smallest, smallest, smallest]);
        let is_reserved: Vec<_> = connections.iter().map(|(_, reserved)| reserved.is_some()).collect();
        assert_eq!(is_reserved, [true, true, true, true, false, false]);
        drop(connections);
        assert_eq!(Http2Settings::reserve(&budget, client).0, largest);
    }
}
