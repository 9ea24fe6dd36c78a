import { expect, it } from 'vitest'
import { shadeOf } from './cohorts'

it('shades by quarters', () => {
  expect([0, 0.01, 0.25, 0.26, 0.5, 0.75, 0.76, 1, Number.NaN].map(shadeOf)).toEqual([0, 1, 1, 2, 2, 3, 4, 4, 0])
})
