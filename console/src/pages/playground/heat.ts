import type { Token } from './answer'

/** The least probability of each step of the scale but the last; from sure to surprising. */
export const STEPS: readonly number[] = [0.9, 0.5, 0.2, 0.05]

export const LEVELS = [0, 1, 2, 3, 4] as const

/** The step of the scale that a token has: 0, the model was sure, to 4, it was surprised. `null`: nothing came before it. */
export function levelOf(logprob: number | null): number | null {
  if (logprob === null || Number.isNaN(logprob)) return null
  const step = STEPS.findIndex((least) => probability(logprob) >= least)
  return step < 0 ? STEPS.length : step
}

export function probability(logprob: number): number {
  return Math.min(1, Math.exp(logprob))
}

/** What is likeliest beside the token itself, and the token; best first, each once. */
export function ranking(token: Token): { text: string; logprob: number; isChosen: boolean }[] {
  const rows = token.alternatives.map((one) => ({ ...one, isChosen: one.text === token.text }))
  if (token.logprob !== null && !rows.some(({ isChosen }) => isChosen)) rows.push({ text: token.text, logprob: token.logprob, isChosen: true })
  return rows.sort((a, b) => b.logprob - a.logprob)
}
