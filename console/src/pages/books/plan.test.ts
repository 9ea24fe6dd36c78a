import { expect, it } from 'vitest'
import type { Plan, Price } from '$lib/api/types'
import { filled, filledIn, formOf, percentOf, permilleOf, poolOf, unpriced, weightOf, weightText } from './plan'

const PLAN: Plan = {
  id: 'team',
  calendar: { zone: 'Asia/Shanghai', anchor_day: 15 },
  price_list: 'standard',
  pool: { tokens: 5000, then: 'stop', weights: { input: 1000, cached_input: 100, output: 3000, reasoning: 0 } },
  discount_permille: 125,
  limits: { requests_per_minute: 60 } as Plan['limits'],
  models: ['m'],
}

it('takes a discount in percent, exactly in thousandths', () => {
  expect(['0', ' 12.5 ', '100', '0.1', '12.50', '29', '57.9'].map(permilleOf)).toEqual([0, 125, 1000, 1, 125, 290, 579])
  expect(['100.1', '-1', '1.55', '', '1e1', '.5', '1,5', '125%'].map(permilleOf)).toEqual(Array(8).fill(null))
  // Each discount there is reads and is read as itself.
  for (let permille = 0; permille <= 1000; permille += 1) expect(permilleOf(percentOf(permille))).toBe(permille)
  expect([0, 5, 125, 1000].map(percentOf)).toEqual(['0', '0.5', '12.5', '100'])
})

it('takes weights in thousandths', () => {
  expect(['1', '0', '0.1', '2.125', '1000', '1000.001', '1.0001', ''].map(weightOf)).toEqual([1000, 0, 100, 2125, 1_000_000, null, null, null])
  expect([1000, 0, 100, 2125].map(weightText)).toEqual(['1', '0', '0.1', '2.125'])
})

it('takes a pool as the plant does, or none', () => {
  expect(['', ' ', '1', '1125899906842624', '1125899906842625', '0', '-1', '1e3'].map(poolOf)).toEqual([undefined, undefined, 1, 1_125_899_906_842_624, null, null, null, null])
})

it('fills in a plan and leaves it as it is where nothing is changed', () => {
  expect(filledIn(PLAN, formOf(PLAN, ''))).toEqual(PLAN)
  const { pool: _pool, models: _models, ...plain } = PLAN
  expect(filledIn(plain, formOf(plain, ''))).toEqual(plain)
  const changed = filledIn(PLAN, { ...formOf(PLAN, ''), list: 'gold', discount: '7.5', then: 'overage', isAll: true })
  expect(changed).toEqual({ ...plain, price_list: 'gold', discount_permille: 75, pool: { ...PLAN.pool, then: 'overage' } })
  expect(filledIn(PLAN, { ...formOf(PLAN, ''), pool: '' })).toEqual({ ...plain, models: ['m'] })
  expect(filled(formOf(undefined, 'standard'))).toEqual({ price_list: 'standard', discount_permille: 0 })
})

it('knows which models have no price in a list; an adapter has its base’s', () => {
  const prices = [['standard', 'm'], ['gold', 'n']].map(([list, model]) => ({ list, model, from: '2026-01-01T00:00:00Z', tiers: [] }) as Price)
  const form = { ...formOf(PLAN, ''), models: ['m', 'm:a', 'n'] }
  expect(unpriced(form, prices)).toEqual(['n'])
  expect(unpriced({ ...form, list: 'gold' }, prices)).toEqual(['m', 'm:a'])
  expect(unpriced({ ...form, isAll: true }, prices)).toEqual([])
})
