//! Budget alerts to a URL of the operator: signed POSTs as Standard Webhooks 1.0 has them, at least once each.
//!
//! The queue is the ledger: an alert without a recorded delivery is due. In memory is only when each is tried next.

mod courier;
mod post;
mod secret;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use economics::books::{Books, Notifier, Raised};
use economics::window::to_rfc3339;
use rand::TryRngCore;
use rand::rngs::OsRng;
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::books::now_ms;
use crate::commands::Context;
use crate::error::{Error, Result};
use courier::{Courier, Times};
pub use post::check_url;
use post::{Answer, Post};
use secret::Secret;

/// How long the end of the program waits for a delivery under way. It is found again at the next start.
const END_LIMIT: Duration = Duration::from_secs(1);

/// The thread that delivers. Dropped: it ends.
pub struct Webhook {
    stop: Arc<AtomicBool>,
    wake: SyncSender<()>,
    thread: Option<JoinHandle<()>>,
}

/// Rings when an alert was raised, and sends test events.
struct Bell {
    wake: SyncSender<()>,
    post: Arc<Post>,
}

/// Starts to deliver the alerts of these books, if a URL is configured.
///
/// # Errors
/// The secret cannot be read or made; no thread to be had.
pub fn start(context: &Context, books: &Arc<Books>) -> Result<Option<Webhook>> {
    let settings = &context.settings.books;
    let Some(url) = &settings.webhook_url else { return Ok(None) };
    let post = Post::new(url, Secret::load(&settings.webhook_secret_file)?);
    tracing::info!("budget alerts go to {}, signed with {}", post.host(), settings.webhook_secret_file.display());
    Webhook::start(books, post, Times::default()).map(Some)
}

/// Checks what can be checked without sending.
///
/// # Errors
/// The secret cannot be read, or is none.
pub fn check(context: &Context) -> Result<()> {
    let settings = &context.settings.books;
    settings.webhook_url.as_ref().map_or(Ok(None), |_| Secret::existing(&settings.webhook_secret_file)).map(drop)
}

impl Webhook {
    fn start(books: &Arc<Books>, post: Post, times: Times) -> Result<Self> {
        let (stop, post) = (Arc::new(AtomicBool::new(false)), Arc::new(post));
        // One ring is enough however many alerts there are.
        let (wake, woken) = sync_channel(1);
        let courier = Courier::new(Arc::downgrade(books), Arc::clone(&post), times, (woken, Arc::clone(&stop)));
        let thread = std::thread::Builder::new()
            .name("webhook".to_owned())
            .spawn(move || courier.run())
            .map_err(|e| Error::failure("cannot start the thread of the webhook").because(e))?;
        books.notify(Arc::new(Bell { wake: wake.clone(), post }));
        Ok(Self { stop, wake, thread: Some(thread) })
    }
}

impl Drop for Webhook {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = self.wake.try_send(());
        let Some(thread) = self.thread.take() else { return };
        let end = Instant::now() + END_LIMIT;
        while !thread.is_finished() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(5));
        }
        if thread.is_finished() && thread.join().is_err() {
            tracing::error!("the thread of the webhook panicked");
        }
    }
}

impl Notifier for Bell {
    fn raised(&self) {
        // Full: it was rung already.
        let _ = self.wake.try_send(());
    }

    fn test(&self) -> Result<String, String> {
        let mut random = [0_u8; 16];
        OsRng.try_fill_bytes(&mut random).map_err(|error| format!("no random numbers: {error}"))?;
        let now_ms = now_ms();
        let message = Message {
            kind: "webhook.test",
            timestamp: to_rfc3339(now_ms),
            data: serde_json::json!({"message": "Tokenworks can reach this address."}),
        };
        let host = self.post.host();
        match self.post.send(&format!("test_{}", crate::catalogue::hex(&random)), &message.body(), now_ms) {
            Answer::Taken(status) => Ok(format!("{host} answered {status}")),
            Answer::Gone => Err(format!("{host} answered 410")),
            Answer::Failed(reason, _) => Err(format!("{host}: {reason}")),
        }
    }
}

/// The body of every event.
#[derive(Serialize)]
struct Message<T> {
    #[serde(rename = "type")]
    kind: &'static str,
    timestamp: String,
    data: T,
}

impl<T: Serialize> Message<T> {
    fn body(&self) -> String {
        // Plain data with text keys always has a JSON form.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// An alert as it is sent: the id that stays the same at every attempt, and the body.
fn message(raised: &Raised, currency: &str) -> (String, String) {
    #[derive(Serialize)]
    struct Data<'a> {
        #[serde(flatten)]
        alert: &'a economics::books::Alert,
        currency: &'a str,
    }
    let data = Data { alert: &raised.alert, currency };
    let message = Message { kind: "budget.threshold", timestamp: to_rfc3339(raised.at), data };
    // The time tells two plants with the same names apart.
    let digest = Sha256::digest(format!("{}\n{}", raised.key, raised.at));
    (format!("alert_{}", crate::catalogue::hex(&digest[..16])), message.body())
}

#[cfg(test)]
mod tests;
