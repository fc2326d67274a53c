package relay

import "postern/bridge/message"

// Ways names the transports that an attempt for out.Recipients may take when all are up, the preferred one first: "graph"
// or "smtp". It reads out.Final, out.BodySize and out.Recipients, and sends nothing. An account that is not configured
// has none.
func (r *Relay) Ways(account string, out message.Outgoing) []string {
	a, ok := r.account(account)
	if !ok {
		return nil
	}
	var names []string
	for _, w := range r.order(a, out) {
		names = append(names, w.name)
	}
	return names
}
