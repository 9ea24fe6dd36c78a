import { call, get, getTagged } from './client'
import type { Key, Organisation, Plan, Price, Project } from './types'

/** Records of the directory by the word for their kind. */
interface Records {
  organisations: Organisation
  projects: Project
  keys: Key
  plans: Plan
  prices: Price
}

/** A record as it is put: what is left out takes its default. */
type Put<T> = T extends readonly unknown[] ? T : T extends object ? { [Name in keyof T]?: Put<T[Name]> } : T

/** All records of a kind that the caller may see. */
export async function records<K extends keyof Records>(kind: K, signal?: AbortSignal): Promise<Records[K][]> {
  const options = { path: { kind }, ...(signal ? { signal } : {}) }
  // The document says that they are records; which ones, the path does.
  return (await get('/admin/v1/{kind}', options)).data as Records[K][]
}

/**
 * Reads a record that is to be changed. What the function that it returns makes of it is put, unless somebody else changed it
 * since: then it is refused (412).
 */
export function changing<K extends keyof Records>(kind: K, id: string): (next: (record: Records[K]) => Put<Records[K]>) => Promise<void> {
  const asked = getTagged('/admin/v1/{kind}/{id}', { kind, id })
  // A failure is told when the change is sent.
  asked.catch(() => undefined)
  return async (next) => {
    const { body, tag } = await asked
    await call('put', '/admin/v1/{kind}', { path: { kind }, body: next(body as Records[K]), headers: { 'if-match': tag } })
  }
}
