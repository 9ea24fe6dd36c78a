//! Who holds connections: a bound for all, a bound for each peer, and a shorter patience when much is taken.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep};

/// How long a connection may be without a request while its peer or all together hold much.
const CROWDED_TIMEOUT: Duration = Duration::from_secs(2);
/// How often a connection asks whether it is crowded.
const LOOK: Duration = Duration::from_millis(500);

/// The connections that are open.
#[derive(Debug)]
pub(crate) struct Crowd {
    max: usize,
    by_peer: Mutex<HashMap<IpAddr, usize>>,
}

impl Crowd {
    pub(crate) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { max, by_peer: Mutex::new(HashMap::new()) })
    }

    /// A place for a connection, unless all are taken or the peer holds half of them.
    pub(crate) fn enter(self: &Arc<Self>, peer: IpAddr) -> Option<Place> {
        let peer = network(peer);
        let mut by_peer = self.lock();
        if by_peer.values().sum::<usize>() >= self.max {
            return None;
        }
        let own = by_peer.get(&peer).copied().unwrap_or(0);
        if own >= self.share() {
            return None;
        }
        by_peer.insert(peer, own + 1);
        drop(by_peer);
        Some(Place { crowd: Arc::clone(self), peer, idle_since: Mutex::new(Some(Instant::now())) })
    }

    /// The most that one peer may hold.
    fn share(&self) -> usize {
        self.max.div_ceil(2)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.by_peer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection's place; free again when it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    crowd: Arc<Crowd>,
    peer: IpAddr,
    /// Since when no request is under way.
    idle_since: Mutex<Option<Instant>>,
}

impl Place {
    /// A whole head has come, or (`false`) its answer has gone out.
    pub(crate) fn set_busy(&self, busy: bool) {
        *self.idle_since.lock().unwrap_or_else(PoisonError::into_inner) = (!busy).then(Instant::now);
    }

    /// Whether more than half is taken, of all places or of the peer's.
    fn is_crowded(&self) -> bool {
        let by_peer = self.crowd.lock();
        let own = by_peer.get(&self.peer).copied().unwrap_or(0);
        own > self.crowd.share() / 2 || by_peer.values().sum::<usize>() > self.crowd.max / 2
    }

    /// Ends when others need this place more: much is taken and no request has come here for a while.
    pub(crate) async fn overstayed(&self) {
        loop {
            sleep(LOOK).await;
            let since = *self.idle_since.lock().unwrap_or_else(PoisonError::into_inner);
            if since.is_some_and(|since| since.elapsed() >= CROWDED_TIMEOUT) && self.is_crowded() {
                return;
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut by_peer = self.crowd.lock();
        match by_peer.get_mut(&self.peer) {
            Some(own) if *own > 1 => *own -= 1,
            _ => drop(by_peer.remove(&self.peer)),
        }
    }
}

/// What counts as one peer: an IPv4 address, or the IPv6 network that one machine is usually given.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() >> 64 << 64).into()),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn one_peer_gets_half_and_all_get_all() {
        let crowd = Crowd::new(4);
        let first = crowd.enter(peer("127.0.0.1")).unwrap();
        let second = crowd.enter(peer("::ffff:127.0.0.1")).unwrap();
        assert!(crowd.enter(peer("127.0.0.1")).is_none());
        let _third = crowd.enter(peer("2001:db8::1")).unwrap();
        let _fourth = crowd.enter(peer("2001:db8::2")).unwrap();
        assert!(crowd.enter(peer("2001:db9::1")).is_none(), "all are taken");
        assert!(crowd.enter(peer("127.0.0.1")).is_none());
        drop((first, second));
        assert!(crowd.enter(peer("2001:db8::3")).is_none(), "the same network");
        assert!(crowd.enter(peer("127.0.0.1")).is_some());
        assert!(Crowd::new(1).enter(peer("::1")).is_some());
    }

    #[test]
    fn crowded_is_more_than_half() {
        let crowd = Crowd::new(8);
        let mut places: Vec<_> = (0..2).map(|_| crowd.enter(peer("10.0.0.1")).unwrap()).collect();
        assert!(!places[0].is_crowded());
        places.push(crowd.enter(peer("10.0.0.1")).unwrap());
        assert!(places[0].is_crowded(), "more than half of the peer's share");
        let other = crowd.enter(peer("10.0.0.2")).unwrap();
        assert!(!other.is_crowded());
        let _last = crowd.enter(peer("10.0.0.3")).unwrap();
        assert!(other.is_crowded(), "more than half of all");
    }
}
