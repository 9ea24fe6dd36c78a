/** An id as the server takes it. */
export function isId(text: string): boolean {
  return /^[a-z0-9._-]{1,64}$/.test(text.trim())
}

const bytesOf = (text: string): number => new TextEncoder().encode(text).length

/** Text of 1 to `most` bytes without control characters, as names and references are. */
export function isPlain(text: string, most = 200): boolean {
  return text.trim() !== '' && bytesOf(text) <= most && !/\p{Cc}/u.test(text)
}
