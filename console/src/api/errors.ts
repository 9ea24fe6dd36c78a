/** What an answer of refusal says. */
interface Problem {
  status: number
  code: string | null
  message: string
  /** The field that is wrong. */
  param: string | null
}

/** The server refused, with a reason for people. `status` 0: it could not be reached. */
export class ApiError extends Error implements Problem {
  readonly status: number
  readonly code: string | null
  readonly param: string | null

  constructor(problem: Problem) {
    super(problem.message)
    this.name = 'ApiError'
    this.status = problem.status
    this.code = problem.code
    this.param = problem.param
  }

  get isUnreachable(): boolean {
    return this.status === 0
  }

  /** Who was signed in is it no longer: the server restarted, or the key ended. */
  get isSessionEnd(): boolean {
    return this.code === 'session_ended'
  }

  /** Somebody else changed the record first. */
  get isConflict(): boolean {
    return this.status === 412
  }

  /** Nothing will be answered to this caller: the key is unknown, or its owner is suspended. */
  get isShutOut(): boolean {
    return this.status === 401 || (this.status === 403 && this.code === 'suspended')
  }
}

/** Reads the body of a refusal, which may come from a proxy and be anything. */
export function problemOf(status: number, body: unknown): Problem {
  const error = isRecord(body) && isRecord(body['error']) ? body['error'] : {}
  const text = (name: string): string | null => (typeof error[name] === 'string' ? error[name] : null)
  return { status, code: text('code'), message: text('message') ?? `HTTP ${status}`, param: text('param') }
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null
}

/** A refusal that names a parameter, to stand beside its field; every other failure stays one. */
export function refusalOf(cause: unknown): ApiError {
  if (cause instanceof ApiError && cause.param !== null) return cause
  throw cause
}
