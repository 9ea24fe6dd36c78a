import type { MergeStep, MergedWord } from '$lib/api/types'

/** Most bytes of a text whose merges the API shows. */
export const MERGES_BYTES_MAX = 512

/** Bytes as people write them: `E9 BB 91`. */
export function hex(bytes: readonly number[]): string {
  return bytes.map((byte) => byte.toString(16).toUpperCase().padStart(2, '0')).join(' ')
}

/** The beginning of a text that has at most so many bytes in UTF-8, and ends with a whole character. */
export function cut(text: string, most: number): string {
  const bytes = new TextEncoder().encode(text)
  if (bytes.length <= most) return text
  return new TextDecoder('utf-8', { fatal: false }).decode(bytes.slice(0, most)).replace(/\uFFFD+$/, '')
}

/** A word as it is written. Its pieces begin as characters, or as bytes: those that are part of a character stand as `\\xNN`. */
export function wordOf({ start }: MergedWord): string {
  const escaped = /^(\\x[0-9a-f]{2})+$/
  const bytesOf = (piece: string): Iterable<number> =>
    escaped.test(piece) ? [...piece.matchAll(/[0-9a-f]{2}/g)].map(([digits]) => Number.parseInt(digits, 16)) : new TextEncoder().encode(piece)
  return new TextDecoder().decode(Uint8Array.from(start.flatMap((piece) => [...bytesOf(piece)])))
}

/** Which word has the most merges; the first of equals. */
export function mostMerged(words: readonly MergedWord[]): number {
  return words.reduce((best, word, index) => (word.steps.length > (words[best]?.steps.length ?? 0) ? index : best), 0)
}

/** The pieces of a word after so many of its merges. */
export function piecesAfter(word: MergedWord, merges: number): readonly string[] {
  return merges === 0 ? word.start : (word.steps[merges - 1]?.pieces ?? word.start)
}

/** What the merge number `index` put together. */
export function pairOf(word: MergedWord, index: number): { left: string; right: string; order: MergeStep } | null {
  const step = word.steps[index]
  if (!step) return null
  const before = piecesAfter(word, index)
  return { left: before[step.at] ?? '', right: before[step.at + 1] ?? '', order: step }
}

/** Waits, so that what is typed or drawn on asks once it rests; what comes after it in line gives it up. */
export function rest(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, ms)
    signal.addEventListener('abort', () => {
      clearTimeout(timer)
      reject(new DOMException('given up', 'AbortError'))
    })
  })
}
