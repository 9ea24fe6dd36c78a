//! Frames of a stream of server-sent events.

use serde::Serialize;

/// The last frame of every stream that ended well.
pub const DONE: &str = "data: [DONE]\n\n";

/// One frame holding `value` as JSON. JSON escapes line ends inside strings, so a frame is always one line.
///
/// # Errors
/// When the value cannot be written as JSON (a map with keys that are no strings).
pub fn frame<T: Serialize>(value: &T) -> serde_json::Result<String> {
    let mut out = String::from("data: ");
    out.push_str(&serde_json::to_string(value)?);
    out.push_str("\n\n");
    Ok(out)
}

/// Takes whole frames out of a growing buffer, for clients: gives the text after `data:` of the next frame and removes
/// the frame from the buffer. `None` when no whole frame is there yet. Comments and other fields are skipped.
#[must_use]
pub fn next_data(buffer: &mut String) -> Option<String> {
    loop {
        let end = buffer.find("\n\n")?;
        let frame: String = buffer.drain(..end + 2).collect();
        let mut data = None::<String>;
        for line in frame.lines() {
            if let Some(text) = line.strip_prefix("data:") {
                let text = text.strip_prefix(' ').unwrap_or(text);
                match &mut data {
                    None => data = Some(text.to_owned()),
                    Some(data) => {
                        data.push('\n');
                        data.push_str(text);
                    }
                }
            }
        }
        if data.is_some() {
            return data;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_one_line_whatever_the_text() {
        let frame = frame(&"a\nb\r\n\u{2028}").unwrap();
        assert_eq!(frame.matches('\n').count(), 2);
        assert!(frame.ends_with("\n\n"));
        let mut buffer = frame;
        let data = next_data(&mut buffer).unwrap();
        assert_eq!(serde_json::from_str::<String>(&data).unwrap(), "a\nb\r\n\u{2028}");
    }

    #[test]
    fn whole_frames_only() {
        let mut buffer = String::from(": ping\n\ndata: one\n\ndata: tw");
        assert_eq!(next_data(&mut buffer).as_deref(), Some("one"));
        assert_eq!(next_data(&mut buffer), None);
        buffer.push_str("o\n\n");
        assert_eq!(next_data(&mut buffer).as_deref(), Some("two"));
        assert!(buffer.is_empty());
    }
}
