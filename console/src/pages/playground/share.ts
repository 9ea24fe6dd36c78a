import { percent } from '$lib/format'
import { probability } from './heat'
import { t } from './texts'

/** The least share that is told in figures. */
const LEAST = 0.001

/** The probability of a token, in words. */
export function share(logprob: number | null): string {
  if (logprob === null) return t('first')
  // Nothing that the model might say is quite impossible.
  return probability(logprob) < LEAST ? `< ${percent(LEAST)}` : percent(probability(logprob))
}
