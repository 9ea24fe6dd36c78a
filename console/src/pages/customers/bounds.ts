import type { Budget } from '$lib/api/types'

export const PERIODS = ['day', 'month', 'forever'] as const
export type Period = (typeof PERIODS)[number]

/** What becomes of requests when a budget is spent. */
export const ENDS = ['refused', 'watched'] as const
type End = (typeof ENDS)[number]

/** A budget as a form has it; an empty amount: none. */
export interface BudgetForm {
  amount: string
  period: Period
  /** Percent, with anything but digits between them. */
  alerts: string
  end: End
}

interface Bounded {
  limits?: object
  budget?: Budget
}

/** The form of a budget, or of none. */
export function formOf(budget: Budget | undefined): BudgetForm {
  return {
    amount: budget?.amount ?? '',
    period: PERIODS.find((one) => one === budget?.period) ?? 'month',
    alerts: budget?.alert_percent.join(', ') ?? '',
    end: budget?.soft ? 'watched' : 'refused',
  }
}

/** The server's rules for thresholds. */
const [MOST_ALERTS, MOST_PERCENT] = [16, 1000]

/** The thresholds of a text such as `50, 80, 100`, each once, ascending; `null`: it is no such list. */
export function percents(text: string): number[] | null {
  const parts = text.split(/[\s,;，、；]+/).filter(Boolean)
  const found = [...new Set(parts.map((part) => Number(/^(\d{1,4})\s*[%％]?$/.exec(part)?.[1])))].sort((a, b) => a - b)
  return found.length <= MOST_ALERTS && found.every((one) => one >= 1 && one <= MOST_PERCENT) ? found : null
}

/** Bounds with the budget of a form, or without one where its amount is empty. What else bounds stays as it is. */
export function bounded({ budget, ...others }: Bounded, { amount, period, alerts, end }: BudgetForm): { limits?: object; budget?: Partial<Budget> } {
  if (amount.trim() === '') return others
  return { ...others, budget: { ...budget, amount: amount.trim(), period, soft: end === 'watched', alert_percent: percents(alerts) ?? [] } }
}

/** The field of the form that a parameter of the API is about, if it is one of a budget. */
export function budgetField(param: string): 'amount' | 'alerts' | undefined {
  if (!param.startsWith('bounds.budget')) return undefined
  return param.startsWith('bounds.budget.alert_percent') ? 'alerts' : 'amount'
}
