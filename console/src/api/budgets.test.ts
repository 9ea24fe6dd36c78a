import { expect, it } from 'vitest'
import { useOf } from './budgets'

it('tells how far a budget is used', () => {
  const use = (spent: string, amount: string, raised: number[] = []): [number, string] => {
    const { share, tone } = useOf({ amount, spent, raised })
    return [share, tone]
  }
  expect(use('0.00', '50.00')).toEqual([0, 'plain'])
  expect(use('39.99', '50.00', [50])[1]).toBe('plain')
  expect(use('40.00', '50.00')).toEqual([0.8, 'warn'])
  expect(use('50.00', '50.00')).toEqual([1, 'bad'])
  expect(use('75.00', '50.00')).toEqual([1.5, 'bad'])
  // The rest pays for no token: the alert of 100 % was raised.
  expect(use('49.99', '50.00', [50, 100])[1]).toBe('bad')
  // Nothing may be spent.
  expect(use('0.00', '0.00')).toEqual([1, 'bad'])
})
