/** An id as the server takes it. */
export function isId(text: string): boolean {
  return /^[a-z0-9._-]{1,64}$/.test(text.trim())
}

const bytesOf = (text: string): number => new TextEncoder().encode(text).length

/** Control characters and marks of writing direction, which would turn round what is shown behind them. */
const DISTURBING = /[\p{Cc}\u202a-\u202e\u2066-\u2069]/u

/** Text of 1 to `most` bytes that disturbs no line, as names and references are. */
export function isPlain(text: string, most = 200): boolean {
  return text.trim() !== '' && bytesOf(text) <= most && !DISTURBING.test(text)
}
