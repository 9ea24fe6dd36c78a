import { ApiError } from '$lib/api/errors'
import { messageText } from './messages'
import { t } from './shared'

const CODES = ['not_found', 'gone', 'not_allowed', 'overloaded', 'books_closed', 'shutting_down'] as const

/** Why something was refused, in the reader's language; in the server's words only what no text is for. */
export function refusalText(error: unknown): string {
  if (!(error instanceof ApiError) || error.isUnreachable) return t('unreachable')
  if (error.status === 412) return t('changedMeanwhile')
  const code = CODES.find((one) => one === error.code)
  return code ? t(`refused.${code}`) : messageText(error.message)
}
