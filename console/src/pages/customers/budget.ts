import type { Budget } from '$lib/api/types'
import { money } from '$lib/format'
import { t } from './texts'

/** A budget in words; nothing where there is none. */
export function budgetText(budget: Budget | undefined, currency: string): string {
  if (!budget) return '—'
  const amount = money(budget.amount, currency)
  if (budget.period === 'day') return t('perDay', { amount })
  return budget.period === 'forever' ? t('perTotal', { amount }) : t('perMonth', { amount })
}
