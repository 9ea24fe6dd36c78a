/** The server's words for what an act is about. */
export const RECORDS = ['organisation', 'team', 'project', 'key', 'end user', 'member', 'plan', 'price', 'experiment', 'payment', 'credit note', 'model', 'plant sheet', 'secret of the keys'] as const

/** What an act is about: the kind by the server's word (`null`: an unknown one) and the name of the one. */
export function recordOf(record: string): { kind: (typeof RECORDS)[number] | null; name: string } {
  const kind = RECORDS.find((word) => record === word || record.startsWith(`${word} `))
  return kind ? { kind, name: record.slice(kind.length + 1) } : { kind: null, name: record }
}
