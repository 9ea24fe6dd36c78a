import { expect, it } from 'vitest'
import type { Budget } from '$lib/api/types'
import { bounded, budgetField, formOf, percents } from './bounds'

it('sets and takes away a budget, and leaves what else bounds', () => {
  const limits = { requests_per_minute: 60 }
  const budget: Budget = { amount: '5.00', period: 'day', soft: true, alert_percent: [80] }
  const form = formOf(budget)
  expect(form).toEqual({ amount: '5.00', period: 'day', alerts: '80', end: 'watched' })
  expect(bounded({ limits, budget }, form)).toEqual({ limits, budget })
  const changed = { amount: ' 20 ', period: 'month', alerts: '100%, 50', end: 'refused' } as const
  expect(bounded({ limits, budget }, changed)).toEqual({ limits, budget: { amount: '20', period: 'month', soft: false, alert_percent: [50, 100] } })
  expect(bounded({ limits, budget }, { ...changed, amount: ' ' })).toEqual({ limits })
  expect(bounded({}, { ...formOf(undefined), amount: '0', period: 'forever' })).toEqual({ budget: { amount: '0', period: 'forever', soft: false, alert_percent: [] } })
})

it('reads thresholds as they are written, within what the server takes', () => {
  expect(['', ' ', '80', '50, 80 100', '100%，50%、80%', '80;80', '1000,1'].map(percents)).toEqual([[], [], [80], [50, 80, 100], [50, 80, 100], [80], [1, 1000]])
  const seventeen = Array.from({ length: 17 }, (_, index) => index + 1)
  expect(['0', '1001', '-5', '12.5', 'half', '50, x', '%', seventeen.join(' ')].map(percents)).toEqual(Array(8).fill(null))
  expect(percents(seventeen.slice(1).join(' '))).toHaveLength(16)
})

it('knows which field a refusal is about', () => {
  expect(['bounds.budget.alert_percent', 'bounds.budget.amount', 'bounds.budget', 'bounds.limits.x', 'name'].map(budgetField)).toEqual(['alerts', 'amount', 'amount', undefined, undefined])
})
