import { expect, it } from 'vitest'
import { href, parsePlace } from './path'

it('reads and writes places', () => {
  const place = parsePlace('#/books/invoices/INV%2F1?organisation=acme&from=')
  expect([place.page, place.rest, place.query.get('organisation')]).toEqual(['books', 'invoices/INV/1', 'acme'])
  expect(href('books', 'invoices', { organisation: 'a&b', from: undefined, to: '' })).toBe('#/books/invoices?organisation=a%26b')
  expect(href('plant')).toBe('#/plant')
})

it('takes whatever stands in the address bar', () => {
  for (const hash of ['', '#', '#/', '#//', '#?x', '#/%E0%A4%A']) expect(() => parsePlace(hash)).not.toThrow()
  expect(parsePlace('#/').page).toBe('')
  expect(parsePlace('#/%E0%A4%A').page).toBe('%E0%A4%A')
})
