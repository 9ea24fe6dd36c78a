import { chance } from '$lib/format'
import { probability } from './heat'
import { t } from './texts'

/** The least probability that stands behind what a model said: none of it was quite impossible. */
const LEAST = Number.MIN_VALUE

/** The probability of a token, in words. */
export function share(logprob: number | null): string {
  return logprob === null ? t('first') : chance(Math.max(LEAST, probability(logprob)))
}
