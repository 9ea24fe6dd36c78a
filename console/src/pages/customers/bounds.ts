import type { Budget } from '$lib/api/types'

export const PERIODS = ['day', 'month', 'forever'] as const
export type Period = (typeof PERIODS)[number]

interface Bounded {
  limits?: object
  budget?: Budget
}

/** Bounds with another amount of the budget, or without one where the amount is empty. What else bounds stays as it is. */
export function bounded({ budget, ...others }: Bounded, amount: string, period: Period): { limits?: object; budget?: Partial<Budget> } {
  return amount.trim() === '' ? others : { ...others, budget: { ...budget, amount: amount.trim(), period } }
}
