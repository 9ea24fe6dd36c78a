//! The console: the files that `npm run build` made in `console/dist`, part of the program. Assets only; `server` serves them.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

/// One file.
#[derive(Debug)]
pub struct Asset {
    /// Its path in the URL, e.g. `/assets/index-B1f2.js`.
    pub path: &'static str,
    /// Its `ETag`, with the quotes: a hash of what it holds.
    pub tag: &'static str,
    /// What it holds.
    pub plain: &'static [u8],
    /// The same under gzip.
    pub gzip: &'static [u8],
}

include!(concat!(env!("OUT_DIR"), "/assets.rs"));

/// The page itself.
pub const INDEX: &str = "/index.html";

/// All files, by path. Empty: this program was built without the console.
#[must_use]
pub fn assets() -> &'static [Asset] {
    ASSETS
}

/// The file of a path.
#[must_use]
pub fn asset(path: &str) -> Option<&'static Asset> {
    ASSETS.binary_search_by(|asset| asset.path.cmp(path)).ok().and_then(|index| ASSETS.get(index))
}

impl Asset {
    /// Its `Content-Type`.
    #[must_use]
    pub fn content_type(&self) -> &'static str {
        match self.path.rsplit('.').next() {
            Some("html") => "text/html; charset=utf-8",
            Some("js") => "text/javascript; charset=utf-8",
            Some("css") => "text/css; charset=utf-8",
            Some("svg") => "image/svg+xml",
            Some("json") => "application/json",
            Some("woff2") => "font/woff2",
            _ => "application/octet-stream",
        }
    }

    /// Whether its name holds a hash of its contents, so that it never changes.
    #[must_use]
    pub fn is_immutable(&self) -> bool {
        self.path.starts_with("/assets/")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_found_by_its_path() {
        assert!(asset(INDEX).is_some(), "console/dist is part of the repository");
        for known in assets() {
            assert_eq!(asset(known.path).map(|found| found.tag), Some(known.tag));
            assert_ne!(known.content_type(), "application/octet-stream", "{}", known.path);
        }
        assert!(asset("/assets/../index.html").is_none() && asset("").is_none());
    }

    #[test]
    fn the_page_loads_nothing_from_elsewhere() {
        let page = asset(INDEX).map(|page| String::from_utf8_lossy(page.plain).into_owned()).unwrap_or_default();
        assert!(page.contains("/assets/") && !page.contains("//"), "{page}");
    }
}
