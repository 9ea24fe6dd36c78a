import { expect, it } from 'vitest'
import type { UsageRow } from '$lib/api/types'
import { sumsOf, usedBy } from './usage'

const row = (day: number, model: string, list: string, discount = '0', credited = '0'): UsageRow => ({
  from_ms: Date.UTC(2026, 10, day, 7),
  organisation: 'acme',
  team: 'growth',
  project: 'web',
  key: 'web-1',
  model,
  tag: '',
  sums: { requests: 2, quantities: { in_uncached: 3, in_cached: 4, out_visible: 5, out_reasoning: 0 }, pooled_tokens: 6, pool_units: 6000, list, discount, credited },
})
const ROWS = [row(27, 'small', '0.1'), row(26, 'large', '0.300000001', '0.03', '0.000000001'), row(27, 'small', '0.2')]

it('adds hours to groups, to the last digit', () => {
  expect(usedBy('model', ROWS).map(({ name, requests, charged }) => [name, requests, charged])).toEqual([
    ['small', 4, '0.30'],
    ['large', 2, '0.27'],
  ])
  expect(usedBy('day', ROWS).map(({ name, charged }) => [name, charged])).toEqual([
    ['2026-11-26', '0.27'],
    ['2026-11-27', '0.30'],
  ])
  expect(usedBy('team', ROWS).map(({ name, charged }) => [name, charged])).toEqual([['growth', '0.57']])
  expect(usedBy('key', []).length).toBe(0)
})

it('adds all of them', () => {
  expect(sumsOf(ROWS)).toEqual({ requests: 6, tokens: { in_uncached: 9, in_cached: 12, out_visible: 15, out_reasoning: 0 }, pooled: 18, charged: '0.57' })
})
