import { ApiError } from '$lib/api/errors'
import { t } from './shared'

const CODES = ['not_found', 'gone', 'not_allowed', 'overloaded', 'books_closed', 'shutting_down'] as const
const TIMES: readonly (string | null)[] = ['start_time', 'end_time', 'compare_start_time', 'compare_end_time']

/** Why something was refused, in the reader's language; in the server's words only what no text is for. */
export function refusalText(error: unknown): string {
  if (!(error instanceof ApiError) || error.isUnreachable) return t('unreachable')
  if (error.status === 412) return t('changedMeanwhile')
  const code = CODES.find((one) => one === error.code)
  if (code) return t(`refused.${code}`)
  return error.status === 400 && TIMES.includes(error.param) ? t('refused.period') : error.message
}
