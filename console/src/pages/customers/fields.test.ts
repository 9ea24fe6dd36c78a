import { expect, it } from 'vitest'
import { contentDays, graceSeconds, isAmount } from './fields'

it('takes amounts as the plant does', () => {
  expect(['0', '20.00', ' 0.000000001 ', '', '-1', '1e3', '1,5', '0.0000000001'].map(isAmount)).toEqual([true, true, true, false, false, false, false, false])
})

it('takes a grace of at most 31 days', () => {
  expect(['0', '60', '44640', '44641', '-1', '1.5', ''].map(graceSeconds)).toEqual([0, 3600, 2_678_400, null, null, null, null])
})

it('takes 1 to 365 days for prompts and answers', () => {
  expect(['1', ' 30 ', '365', '366', '0', '1.5', '-1', ''].map(contentDays)).toEqual([1, 30, 365, null, null, null, null, null])
})
