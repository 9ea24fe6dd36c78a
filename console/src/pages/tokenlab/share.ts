import { percent } from '$lib/format'

/** The least share that is told in figures. */
const LEAST = 0.001

/** A probability for people: nought only where it is nought. */
export function shareOf(probability: number): string {
  return probability > 0 && probability < LEAST ? `< ${percent(LEAST)}` : percent(probability)
}
