import { expect, it } from 'vitest'
import { daysOf, startOf } from './span'

it('takes whole days that end with the present one', () => {
  const now = Date.UTC(2026, 10, 27, 18, 30)
  expect(startOf('1', now)).toBe(Date.UTC(2026, 10, 27) / 1000)
  expect(startOf('7', now)).toBe(Date.UTC(2026, 10, 21) / 1000)
})

it('falls back to 30 days', () => {
  expect(['7', '12', '', null].map(daysOf)).toEqual(['7', '30', '30', '30'])
})
