import { expect, it } from 'vitest'
import { contentDays, creditKind, graceSeconds, isAmount, isPayment, laterThan, newReference } from './fields'

it('takes amounts as the plant does', () => {
  expect(['0', '20.00', ' 0.000000001 ', '', '-1', '1e3', '1,5', '0.0000000001'].map(isAmount)).toEqual([true, true, true, false, false, false, false, false])
})

it('takes a payment in and one out, and none of nothing', () => {
  expect(['5.00', '-5', ' 0.01 ', '0', '-0.00', '', '--1', '1e3'].map(isPayment)).toEqual([true, true, true, false, false, false, false, false])
})

it('reads how a customer pays from its credit', () => {
  expect([undefined, '0', '0.00', '0.000000001', '100'].map(creditKind)).toEqual(['unbounded', 'prepaid', 'prepaid', 'limit', 'limit'])
})

it('makes another reference each time', () => {
  expect(newReference()).toMatch(/^console-[0-9a-f]{16}$/)
  expect(newReference()).not.toBe(newReference())
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
