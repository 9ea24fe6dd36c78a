import { expect, it } from 'vitest'
import { grantable } from './scopes'

it('offers no more than the caller may give', () => {
  expect(grantable(['plant'])).toEqual(['inference', 'usage', 'manage', 'plant'])
  expect(grantable(['manage', 'usage'])).toEqual(['usage', 'manage'])
  expect(grantable([])).toEqual([])
})
