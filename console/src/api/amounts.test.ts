import { expect, it } from 'vitest'
import { isAmount, isPayment, left, newReference, text } from './amounts'

it('takes amounts as the plant does', () => {
  expect(['9223372036', '9223372036.854775807', '9223372036.854775808', '9223372037', '10000000000'].map(isAmount)).toEqual([true, true, false, false, false])
  expect(['0', '20.00', ' 0.000000001 ', '', '-1', '1e3', '1,5', '0.0000000001'].map(isAmount)).toEqual([true, true, true, false, false, false, false, false])
})

it('takes a payment in and one out, and none of nothing', () => {
  expect(['5.00', '-5', ' 0.01 ', '0', '-0.00', '', '--1', '1e3'].map(isPayment)).toEqual([true, true, true, false, false, false, false, false])
})

it('makes another reference each time', () => {
  expect(newReference()).toMatch(/^console-[0-9a-f]{16}$/)
  expect(newReference()).not.toBe(newReference())
})

it('takes amounts off to the last digit', () => {
  expect(text(left('0.01098', '0.001098', '0.008882'))).toBe('0.001')
  expect([text(left('0.30')), left('0.30', '0.10', '0.2')]).toEqual(['0.30', 0n])
})
