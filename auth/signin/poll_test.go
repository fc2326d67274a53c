package signin

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func TestPoll(t *testing.T) {
	type turn struct {
		answer Answer
		after  time.Duration
	}
	refused := errors.New("declined")
	for _, tc := range []struct {
		name  string
		pace  Pace
		turns []turn // the last repeats
		err   error  // of the turn after those
		asked []int  // seconds from the beginning
		want  error
	}{
		{"pending is asked again at the interval", Pace{Interval: 5 * time.Second, Expires: time.Minute},
			[]turn{{Pending, 0}, {Pending, 0}, {Done, 0}}, nil, []int{5, 10, 15}, nil},
		{"slow_down adds five seconds for good", Pace{Interval: 5 * time.Second, Expires: time.Minute},
			[]turn{{Slower, 0}, {Pending, 0}, {Slower, 0}, {Done, 0}}, nil, []int{5, 15, 25, 40}, nil},
		{"trouble doubles the wait, and a good answer brings the pace back", Pace{Interval: 5 * time.Second, Expires: 10 * time.Minute},
			[]turn{{Trouble, 0}, {Trouble, 0}, {Pending, 0}, {Done, 0}}, nil, []int{5, 15, 35, 40}, nil},
		{"trouble waits a minute at most", Pace{Interval: 20 * time.Second, Expires: 10 * time.Minute},
			[]turn{{Trouble, 0}, {Trouble, 0}, {Trouble, 0}, {Done, 0}}, nil, []int{20, 60, 120, 180}, nil},
		{"Retry-After is heeded", Pace{Interval: 5 * time.Second, Expires: 10 * time.Minute},
			[]turn{{Trouble, 90 * time.Second}, {Done, 0}}, nil, []int{5, 95}, nil},
		{"the first turn may be at once", Pace{Interval: 2 * time.Second, Expires: time.Minute, AtOnce: true},
			[]turn{{Trouble, 0}, {Done, 0}}, nil, []int{0, 4}, nil},
		{"the code expires", Pace{Interval: 5 * time.Second, Expires: 12 * time.Second},
			[]turn{{Pending, 0}}, nil, []int{5, 10}, ErrExpired},
		{"a refusal ends it", Pace{Interval: 5 * time.Second, Expires: time.Minute},
			[]turn{{Pending, 0}}, refused, []int{5, 10}, refused},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				begun := time.Now()
				var asked []int
				err := Poll(t.Context(), tc.pace, func(context.Context) (Answer, time.Duration, error) {
					n := len(asked)
					asked = append(asked, int(time.Since(begun).Seconds()))
					if n >= len(tc.turns) && tc.err != nil {
						return 0, 0, tc.err
					}
					now := tc.turns[min(n, len(tc.turns)-1)]
					return now.answer, now.after, nil
				})
				if !errors.Is(err, tc.want) || !slices.Equal(asked, tc.asked) {
					t.Errorf("asked after %v seconds, %v; want %v, %v", asked, err, tc.asked, tc.want)
				}
			})
		})
	}
}

func TestPollEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(7*time.Second, cancel)
		err := Poll(ctx, Pace{Interval: 5 * time.Second, Expires: time.Hour}, func(context.Context) (Answer, time.Duration, error) { return Pending, 0, nil })
		if !errors.Is(err, context.Canceled) || errors.Is(err, ErrExpired) {
			t.Errorf("Poll = %v; want the context's", err)
		}
		// A turn that is cut off by the end of the code is no refusal.
		err = Poll(t.Context(), Pace{Interval: time.Second, Expires: 3 * time.Second}, func(ctx context.Context) (Answer, time.Duration, error) {
			<-ctx.Done()
			return 0, 0, ctx.Err()
		})
		if !errors.Is(err, ErrExpired) {
			t.Errorf("Poll = %v; want ErrExpired", err)
		}
	})
}
