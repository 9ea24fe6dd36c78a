import { t } from '$lib/i18n/shared'
import { call, get, getTagged } from './client'
import { ApiError } from './errors'
import { isSame } from './same'
import type { Key, Organisation, Plan, Price, Project, Team } from './types'

/** Records of the directory by the word for their kind. */
interface Records {
  organisations: Organisation
  teams: Team
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

/** What a key's record shows, and nobody writes. */
const OWN: readonly string[] = ['prefix', 'revoked', 'previous']

/** A record without what is the server's own. */
const written = (kind: keyof Records, record: object): object =>
  kind === 'keys' ? Object.fromEntries(Object.entries(record).filter(([name]) => !OWN.includes(name))) : record

/** Makes a record. One that is there already is left as it is, and its `id` is refused; of what has none, what `taken` says. */
export async function make<K extends 'organisations' | 'teams' | 'projects' | 'plans' | 'prices'>(kind: K, record: Put<Records[K]>, taken = { param: 'id', message: t('taken') }): Promise<void> {
  try {
    await call('put', '/admin/v1/{kind}', { path: { kind }, body: record, headers: { 'if-none-match': '*' } })
  } catch (cause) {
    if (!(cause instanceof ApiError) || cause.status !== 412) throw cause
    throw new ApiError({ status: 400, code: cause.code, ...taken })
  }
}

const idOf = (record: Records[keyof Records]): string => ('id' in record ? record.id : `${record.list}/${record.model}`)

/**
 * Begins to change a record as `shown`, from which a form is filled; of a price the latest version that is shown. What the function
 * that it returns makes of it is put, unless somebody else changed it since it was read to be shown: then it is refused (412).
 */
export function changing<K extends keyof Records>(kind: K, shown: Records[K]): (next: (record: Records[K]) => Put<Records[K]>) => Promise<void> {
  const id = idOf(shown)
  const asked = getTagged('/admin/v1/{kind}/{id}', { kind, id })
  // A failure is told when the change is sent.
  asked.catch(() => undefined)
  return async (next) => {
    const { body, tag } = await asked
    const record = body as Records[K]
    // The tag stands for what was read just now: the form must be of the same.
    if (!isSame(written(kind, record), written(kind, shown))) throw new ApiError({ status: 412, code: null, message: t('changedMeanwhile'), param: null })
    await call('put', '/admin/v1/{kind}', { path: { kind }, body: written(kind, next(record)), headers: { 'if-match': tag } })
  }
}
