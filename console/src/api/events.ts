import { reach } from './client'
import { ApiError, problemOf } from './errors'

/** Longest event taken, in characters; a server that sends more than that without an end is not ours. */
const LONGEST = 4_000_000

/** Takes server-sent events out of text that comes in pieces, whichever way it is cut. */
export class EventReader {
  #rest = ''

  /** The data of the events that are complete with this piece. */
  read(piece: string): string[] {
    this.#rest = (this.#rest + piece).replace(/\r\n/g, '\n')
    if (this.#rest.length > LONGEST) throw new ApiError({ status: 0, code: 'too_long', message: 'an event without an end', param: null })
    const blocks = this.#rest.split('\n\n')
    this.#rest = blocks.pop() ?? ''
    return blocks.map(dataOf).filter((data) => data !== null)
  }
}

function dataOf(block: string): string | null {
  const lines = block.split('\n').filter((line) => line.startsWith('data:'))
  return lines.length === 0 ? null : lines.map((line) => line.slice(5).replace(/^ /, '')).join('\n')
}

/** Asks for a stream of JSON documents, until `[DONE]`. An error that the server tells within the stream is thrown. */
export async function* stream<Frame>(route: string, body: unknown, signal: AbortSignal): AsyncGenerator<Frame> {
  const headers = { accept: 'text/event-stream', 'content-type': 'application/json' }
  const response = await reach(route, { method: 'POST', headers, credentials: 'same-origin', body: JSON.stringify(body), signal })
  const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader()
  const events = new EventReader()
  while (reader) {
    const { done, value } = await reader.read().catch((cause: unknown) => {
      if (signal.aborted) throw cause
      throw new ApiError({ status: 0, code: 'broken', message: String(cause), param: null })
    })
    for (const data of events.read(value ?? '')) {
      if (data === '[DONE]') return
      yield frameOf<Frame>(data)
    }
    if (done) break
  }
  throw new ApiError({ status: 0, code: 'broken', message: 'the stream ended early', param: null })
}

function frameOf<Frame>(data: string): Frame {
  const frame = JSON.parse(data) as Frame & { error?: unknown }
  if (frame.error) throw new ApiError({ ...problemOf(500, frame) })
  return frame
}
