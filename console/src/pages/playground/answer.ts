import type { components } from '$lib/api/schema'

type Schemas = components['schemas']
export type Usage = Schemas['Usage']
/** A frame of either stream. */
export type Frame = Schemas['ChatCompletionChunk'] | Schemas['Completion']

interface Alternative {
  text: string
  logprob: number
}
export interface Token {
  text: string
  /** `null` for the first token of a prompt, which nothing came before. */
  logprob: number | null
  alternatives: Alternative[]
}
interface Candidate {
  text: string
  tokens: Token[]
  /** `stop`, `length`, or `budget`; `null` while it goes on. */
  finish: string | null
}
export interface Answer {
  id: string
  candidates: Candidate[]
  usage: Usage | null
}

export const BLANK: Answer = { id: '', candidates: [], usage: null }
/** Most candidates that are kept; the server's own limit is below. */
const MOST = 256

/** The answer with one more frame. */
export function fold(answer: Answer, frame: Frame): Answer {
  const candidates = [...answer.candidates]
  for (const choice of frame.choices) {
    if (choice.index >= MOST) continue
    while (candidates.length <= choice.index) candidates.push({ text: '', tokens: [], finish: null })
    const before = candidates[choice.index] ?? { text: '', tokens: [], finish: null }
    const text = 'delta' in choice ? (choice.delta.content ?? '') : choice.text
    candidates[choice.index] = {
      text: before.text + text,
      tokens: choice.logprobs ? [...before.tokens, ...tokensOf(choice.logprobs)] : before.tokens,
      finish: choice.tokenworks?.stop ?? choice.finish_reason ?? before.finish,
    }
  }
  return { id: frame.id, candidates, usage: frame.usage ?? answer.usage }
}

/** Whether a frame brings text, which the first one of a chat does not. */
export function hasText(frame: Frame): boolean {
  return frame.choices.some((choice) => ('delta' in choice ? choice.delta.content : choice.text) || choice.logprobs)
}

function tokensOf(logprobs: Schemas['ChatLogprobs'] | Schemas['CompletionLogprobs']): Token[] {
  if ('content' in logprobs) {
    return logprobs.content.map((one) => ({
      text: one.token,
      logprob: one.logprob,
      alternatives: one.top_logprobs.map(({ token, logprob }) => ({ text: token, logprob })),
    }))
  }
  return logprobs.tokens.map((text, index) => ({
    text: shown(text),
    logprob: logprobs.token_logprobs[index] ?? null,
    alternatives: Object.entries(logprobs.top_logprobs[index] ?? {})
      .map(([name, logprob]) => ({ text: shown(name), logprob }))
      .sort((a, b) => b.logprob - a.logprob),
  }))
}

/** Completions write bytes that are no character as `bytes:\xNN`, chats as `\xNN`. */
function shown(token: string): string {
  return token.replace(/^bytes:/, '')
}

/** What a page measures of one answer, in milliseconds of its own clock. */
export interface Times {
  begun: number
  first: number | null
  ended: number | null
}

/** Seconds to the first token, as they are seen here: network and page included. */
export function ttft({ begun, first }: Times): number | null {
  return first === null ? null : (first - begun) / 1000
}

/** Tokens per second after the first one of each candidate; `null` where there are too few to tell. */
export function tokensPerSecond({ first, ended }: Times, usage: Usage | null, candidates: number): number | null {
  if (first === null || ended === null || !usage || ended <= first) return null
  const later = usage.completion_tokens - Math.max(1, candidates)
  return later > 0 ? (later * 1000) / (ended - first) : null
}
