import { expect, it } from 'vitest'
import { recordOf } from './audit'

it('tells the kind of a record from its name', () => {
  expect(recordOf('project web')).toEqual({ kind: 'project', name: 'web' })
  expect(recordOf('end user acme/a b')).toEqual({ kind: 'end user', name: 'acme/a b' })
  expect(recordOf('credit note acme/01')).toEqual({ kind: 'credit note', name: 'acme/01' })
  expect(recordOf('secret of the keys')).toEqual({ kind: 'secret of the keys', name: '' })
  expect(recordOf('planet x')).toEqual({ kind: null, name: 'planet x' })
})
