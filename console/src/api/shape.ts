/**
 * Shapes of answers that the API's document describes in words only. A document is taken when it has its shape; fields that a
 * shape does not name are left as they are. What is of another kind is refused by its place.
 */
import { ApiError } from './errors'

/** Returns the value, or refuses it. */
export type Shape<T> = (value: unknown, place: string) => T
/** What has a shape. */
export type Of<S> = S extends Shape<infer T> ? T : never
type Fields = Record<string, Shape<unknown>>
type Flat<T> = { [Name in keyof T]: T[Name] }

function refuse(place: string, expected: string): never {
  throw new ApiError({ status: 200, code: 'unexpected_answer', message: `the answer's ${place || 'document'} should be ${expected}`, param: null })
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

export const text: Shape<string> = (value, place) => (typeof value === 'string' ? value : refuse(place, 'a text'))
export const number: Shape<number> = (value, place) => (typeof value === 'number' ? value : refuse(place, 'a number'))
export const flag: Shape<boolean> = (value, place) => (typeof value === 'boolean' ? value : refuse(place, 'true or false'))
export const anything: Shape<unknown> = (value) => value

export function nullable<T>(shape: Shape<T>): Shape<T | null> {
  return (value, place) => (value === null ? null : shape(value, place))
}

export function word<const W extends string>(...words: readonly W[]): Shape<W> {
  return (value, place) => words.find((one) => one === value) ?? refuse(place, `one of ${words.join(', ')}`)
}

export function list<T>(shape: Shape<T>): Shape<T[]> {
  return (value, place) => {
    if (!Array.isArray(value)) refuse(place, 'a list')
    value.forEach((one, index) => shape(one, `${place}[${index}]`))
    return value as T[]
  }
}

export function pair<T>(shape: Shape<T>): Shape<[T, T]> {
  return (value, place) => {
    const found = list(shape)(value, place)
    return found.length === 2 ? (found as [T, T]) : refuse(place, 'a list of two')
  }
}

/** `optional`: fields that may be absent. */
export function object<F extends Fields, O extends Fields = Record<never, never>>(
  fields: F,
  optional?: O,
): Shape<Flat<{ [Name in keyof F]: Of<F[Name]> } & { [Name in keyof O]?: Of<O[Name]> }>> {
  return (value, place) => {
    if (!isObject(value)) refuse(place, 'an object')
    const at = (name: string): string => (place === '' ? name : `${place}.${name}`)
    for (const [name, shape] of Object.entries(fields)) shape(value[name], at(name))
    for (const [name, shape] of Object.entries(optional ?? {})) if (value[name] !== undefined) shape(value[name], at(name))
    return value as never
  }
}
