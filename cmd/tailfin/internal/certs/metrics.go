package certs

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// Values of the label result.
const (
	resultTaken     = "taken"
	resultUnchanged = "unchanged"
	resultRefused   = "refused"
	resultObtained  = "obtained"
	resultRenewed   = "renewed"
	resultFailed    = "failed"
)

type metrics struct {
	reg            prometheus.Registerer // nil: nothing is registered
	all            []prometheus.Collector
	reloads        *prometheus.CounterVec
	orders         *prometheus.CounterVec
	refusedClients prometheus.Counter
}

func newMetrics() *metrics {
	m := &metrics{
		reloads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tailfin_certificate_reloads_total",
			Help: "Looks at certificate and client CA files that found something new or were asked for, by result: taken, unchanged, or refused, which keeps the old one.",
		}, []string{"result"}),
		orders: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tailfin_certificate_acme_orders_total",
			Help: "Certificates ordered from the ACME CA, by result: obtained, renewed, or failed.",
		}, []string{"result"}),
		refusedClients: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "tailfin_certificate_client_refusals_total",
			Help: "Client certificates refused: not of the client CAs, out of date, or not for clients. A handshake without one, where one is required, is not counted: crypto/tls ends it.",
		}),
	}
	for _, r := range []string{resultTaken, resultUnchanged, resultRefused} {
		m.reloads.WithLabelValues(r) // a rate needs the zero before the first
	}
	for _, r := range []string{resultObtained, resultRenewed, resultFailed} {
		m.orders.WithLabelValues(r)
	}
	return m
}

// register has reg collect them.
func (m *metrics) register(reg prometheus.Registerer) error {
	if reg == nil {
		return nil
	}
	m.reg = reg
	for _, c := range []prometheus.Collector{m.reloads, m.orders, m.refusedClients} {
		if err := reg.Register(c); err != nil {
			m.unregister()
			return fmt.Errorf("register certificate metrics: %w", err)
		}
		m.all = append(m.all, c)
	}
	return nil
}

func (m *metrics) unregister() {
	for _, c := range m.all {
		m.reg.Unregister(c)
	}
	m.all = nil
}

func (m *metrics) reload(result string) { m.reloads.WithLabelValues(result).Inc() }
func (m *metrics) order(result string)  { m.orders.WithLabelValues(result).Inc() }
func (m *metrics) refuseClient()        { m.refusedClients.Inc() }
