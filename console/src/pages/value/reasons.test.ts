import { expect, it, vi } from 'vitest'
import { reasonText } from './reasons'

// Texts ask the browser for its language.
vi.hoisted(() => vi.stubGlobal('navigator', { languages: ['zh-CN'] }))

/** All that the server says, in its words. */
const REASONS = [
  'fewer than 2 clusters show no spread',
  'all clusters have the same ratio, which shows no spread',
  'too few clusters with a ratio of their own: drawn again, too many samples show no spread',
  'a side has fewer than 30 units, too few for its mean to be near normal',
  'all units have the same value, which shows no spread',
  'fewer than 2 units on a side show no spread',
  'arm new has 99 of the 100 units it needs',
  'an arm has no tokens or units to divide by',
  'all units of an arm have the same metric, which shows no spread',
]

it('tells in Chinese why there is no interval', () => {
  for (const reason of REASONS) expect(reasonText(reason), reason).not.toMatch(/[a-z]{4,}/)
  expect(reasonText('arm new has 99 of the 100 units it needs')).toMatch(/new.*100.*99/)
  expect(reasonText('a side has fewer than 30 units, too few')).toContain('30')
  expect(reasonText('something else')).toBe('something else')
})
