//! Messages on a pipe: a length of four bytes, then so many bytes.

use std::io::{self, Read, Write};

/// Longest frame. Texts are far shorter, JSON may make them several times longer.
pub(super) const BYTES_MAX: usize = 64 << 20;

/// Writes a frame.
///
/// # Errors
/// It is longer than [`BYTES_MAX`], or the pipe is broken.
pub(super) fn write(pipe: &mut impl Write, frame: &[u8]) -> io::Result<()> {
    let length = u32::try_from(frame.len()).ok().filter(|_| frame.len() <= BYTES_MAX);
    let length = length.ok_or_else(|| io::Error::from(io::ErrorKind::FileTooLarge))?;
    pipe.write_all(&length.to_le_bytes())?;
    pipe.write_all(frame)?;
    pipe.flush()
}

/// Reads a frame; `None` where the pipe ends instead of a new one.
///
/// # Errors
/// The pipe is broken or ends within a frame, or the frame is longer than [`BYTES_MAX`].
pub(super) fn read(pipe: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut length = Vec::new();
    pipe.by_ref().take(4).read_to_end(&mut length)?;
    let length = match length.try_into() {
        Ok(bytes) => u32::from_le_bytes(bytes),
        Err(empty) if Vec::is_empty(&empty) => return Ok(None),
        Err(_) => return Err(io::ErrorKind::UnexpectedEof.into()),
    };
    let length = usize::try_from(length).ok().filter(|length| *length <= BYTES_MAX);
    let length = length.ok_or_else(|| io::Error::from(io::ErrorKind::FileTooLarge))?;
    let mut frame = Vec::new();
    // Grows with what really comes.
    pipe.by_ref().take(length as u64).read_to_end(&mut frame)?;
    if frame.len() < length { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(Some(frame)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_back() {
        let mut pipe = Vec::new();
        for frame in [&b"one"[..], b"", b"three"] {
            write(&mut pipe, frame).unwrap();
        }
        let mut pipe = pipe.as_slice();
        for frame in [&b"one"[..], b"", b"three"] {
            assert_eq!(read(&mut pipe).unwrap().unwrap(), frame);
        }
        assert!(read(&mut pipe).unwrap().is_none());
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        for (bytes, kind) in [
            (&[1, 0][..], io::ErrorKind::UnexpectedEof),
            (&[2, 0, 0, 0, b'a'], io::ErrorKind::UnexpectedEof),
            (&[255, 255, 255, 255, b'a'], io::ErrorKind::FileTooLarge),
        ] {
            assert_eq!(read(&mut &bytes[..]).unwrap_err().kind(), kind, "{bytes:?}");
        }
        assert!(write(&mut Vec::new(), &vec![0; BYTES_MAX + 1]).is_err());
    }
}
