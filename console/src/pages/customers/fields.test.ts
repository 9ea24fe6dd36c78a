import { expect, it } from 'vitest'
import { contentDays, creditKind, graceSeconds, laterThan } from './fields'

it('reads how a customer pays from its credit', () => {
  expect([undefined, '0', '0.00', '0.000000001', '100'].map(creditKind)).toEqual(['unbounded', 'prepaid', 'prepaid', 'limit', 'limit'])
})

it('takes an end of a key that is to come', () => {
  const now = Date.parse('2026-11-28T12:00:00Z')
  expect(['2026-11-28T12:01', '2026-11-28T12:00', '2026-11-27T23:59', 'soon', ''].map((text) => laterThan(now, text))).toEqual(['2026-11-28T12:01:00Z', null, null, null, null])
})

it('takes a grace of at most 31 days', () => {
  expect(['0', '60', '44640', '44641', '-1', '1.5', ''].map(graceSeconds)).toEqual([0, 3600, 2_678_400, null, null, null, null])
})

it('takes 1 to 365 days for prompts and answers', () => {
  expect(['1', ' 30 ', '365', '366', '0', '1.5', '-1', ''].map(contentDays)).toEqual([1, 30, 365, null, null, null, null, null])
})
