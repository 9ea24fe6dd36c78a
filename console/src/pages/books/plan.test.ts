import { expect, it } from 'vitest'
import { permilleOf, poolOf } from './plan'

it('takes a discount in thousandths', () => {
  expect(['0', ' 125 ', '1000', '1001', '-1', '1.5', ''].map(permilleOf)).toEqual([0, 125, 1000, null, null, null, null])
})

it('takes a pool as the plant does, or none', () => {
  expect(['', ' ', '1', '1125899906842624', '1125899906842625', '0', '-1', '1e3'].map(poolOf)).toEqual([undefined, undefined, 1, 1_125_899_906_842_624, null, null, null, null])
})
