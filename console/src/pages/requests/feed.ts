import type { RequestList, RequestSummary } from '$lib/api/types'

/** Requests that the page holds at most; the API keeps as many unless it is told otherwise. */
export const MOST = 10_000
export const PAGE = 500

export interface Feed {
  rows: readonly RequestSummary[]
  /** After which the next ones come. */
  newest: number
  /** Before which the older ones come; `null`: there are none. */
  before: number | null
}

/** The first page. */
export function begun(list: RequestList): Feed {
  return { rows: list.data, newest: list.newest, before: list.next_before ?? null }
}

/** With what came since, newest first; `null`: more came than a page holds, so that all is asked anew. */
export function withNews(feed: Feed, news: RequestList): Feed | null {
  if (news.has_more) return null
  const rows = [...news.data, ...feed.rows]
  // What falls out at the end is older than what is asked for next.
  const before = rows.length > MOST ? null : feed.before
  return { rows: rows.slice(0, MOST), newest: Math.max(feed.newest, news.newest), before }
}

/** With an older page. */
export function withOlder(feed: Feed, older: RequestList): Feed {
  const rows = [...feed.rows, ...older.data].slice(0, MOST)
  return { ...feed, rows, before: rows.length >= MOST ? null : (older.next_before ?? null) }
}
