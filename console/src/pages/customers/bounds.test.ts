import { expect, it } from 'vitest'
import type { Budget } from '$lib/api/types'
import { bounded } from './bounds'

it('sets and takes away a budget, and leaves what else bounds', () => {
  const limits = { requests_per_minute: 60 }
  const budget: Budget = { amount: '5.00', period: 'day', soft: true, alert_percent: [80] }
  expect(bounded({ limits, budget }, ' 20 ', 'month')).toEqual({ limits, budget: { amount: '20', period: 'month', soft: true, alert_percent: [80] } })
  expect(bounded({ limits, budget }, ' ', 'month')).toEqual({ limits })
  expect(bounded({}, '0', 'forever')).toEqual({ budget: { amount: '0', period: 'forever' } })
})
