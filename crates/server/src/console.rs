//! The console's files: a page that the program carries with it.
//!
//! They are for everybody, since they hold nothing: what the page shows it asks the API for, like any client.

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use console::{Asset, INDEX, asset, assets};

/// The page runs its own files, talks to its own server, and stands in no other page. Nothing is inline.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self'; \
                      connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";
/// Of files whose names hold a hash of their contents: a year, and never asked for again.
const FOR_GOOD: &str = "public, max-age=31536000, immutable";

/// Whether this program carries the console.
#[must_use]
pub fn is_built() -> bool {
    asset(INDEX).is_some()
}

/// A route for each file, and `/` for the page itself. Empty where the program was built without the console.
pub(crate) fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    let page = asset(INDEX).map(|page| ("/", page));
    let files = assets().iter().filter(|file| file.path != INDEX).map(|file| (file.path, file));
    page.into_iter().chain(files).fold(Router::new(), |router, (path, file)| {
        router.route(path, get(async move |request: Request| serve(file, request.headers())))
    })
}

fn serve(file: &'static Asset, asked: &HeaderMap) -> Response {
    let cache = if file.is_immutable() { FOR_GOOD } else { "no-cache" };
    let packed = takes_gzip(asked);
    // A name for each form, as caches between would else mix them up.
    let tag = if packed { file.tag.replacen('"', "\"gz-", 1) } else { file.tag.to_owned() };
    let fresh = asked.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok()).any(|known| {
        known.split(',').map(|one| one.trim().trim_start_matches("W/")).any(|one| one == tag || one == "*")
    });
    let mut response = if fresh {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        ([(header::CONTENT_TYPE, file.content_type())], if packed { file.gzip } else { file.plain }).into_response()
    };
    let headers = response.headers_mut();
    if packed && !fresh {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    // Hexadecimal digits and quotes are always a value.
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        headers.insert(header::ETAG, tag);
    }
    for (name, value) in [
        (header::CACHE_CONTROL, cache),
        (header::VARY, "accept-encoding"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.insert("cross-origin-opener-policy", HeaderValue::from_static("same-origin"));
    headers.insert("cross-origin-resource-policy", HeaderValue::from_static("same-origin"));
    response
}

/// Whether gzip is named and not refused (`gzip;q=0`). `*` stands for it only where it is not named itself.
fn takes_gzip(asked: &HeaderMap) -> bool {
    let named = asked.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    let codings: Vec<&str> = named.flat_map(|value| value.split(',')).collect();
    let takes = |wanted: &str| {
        codings.iter().find_map(|coding| {
            let mut parts = coding.split(';').map(str::trim);
            parts.next().filter(|name| name.eq_ignore_ascii_case(wanted))?;
            // What is no quality is no yes either.
            let quality = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
            Some(quality.is_none_or(|text| text.trim().parse::<f32>().is_ok_and(|quality| quality > 0.0)))
        })
    };
    takes("gzip").or_else(|| takes("*")).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_sent_to_those_who_take_it() {
        let asked = |text: &'static str| {
            takes_gzip(&HeaderMap::from_iter([(header::ACCEPT_ENCODING, HeaderValue::from_static(text))]))
        };
        assert!(asked("gzip, deflate, br") && asked("br;q=1, GZIP;q=0.5") && asked("*"));
        assert!(!asked("br") && !asked("gzip;q=0") && !asked("gzip; q=0.0") && !takes_gzip(&HeaderMap::new()));
        assert!(!asked("gzip;q=0, *") && !asked("*, GZIP;Q=0") && !asked("*;q=0") && !asked("gzip;q=x"));
        assert!(asked("*;q=0, gzip") && asked("identity, *;q=0.1"));
    }
}
