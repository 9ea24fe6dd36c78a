import { ApiError } from '$lib/api/errors'
import { refusalText } from '$lib/i18n/refusal'
import { router } from '$lib/router/router.svelte'
import { periodOf, spanOf, type Period } from './span'

/** The period of the address, and what the API last said against it: shown beside the choice of the period. */
class Asked {
  refusal = $state<string>()

  /** Read while something is asked, so that it is asked again for another period. */
  get period(): Period {
    return periodOf(spanOf(router.place.query), Date.now())
  }

  /** What is asked for this period; a refusal of the period is kept. */
  async of<T>(answer: Promise<T>): Promise<T> {
    try {
      const value = await answer
      this.refusal = undefined
      return value
    } catch (cause) {
      const isRefused = cause instanceof ApiError && (cause.param === 'start_time' || cause.param === 'end_time')
      this.refusal = isRefused ? refusalText(cause) : undefined
      throw cause
    }
  }
}

export const asked = new Asked()
