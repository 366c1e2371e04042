package netlab

import (
	"encoding/json"
	"errors"
)

var (
	_ reshaper = (*wireLink)(nil)
	_ reshaper = (*wire)(nil)
	_ reshaper = (*wireProcess)(nil)
)

func (w *wire) shape(to shapes) error {
	w.forward.change.Store(&to.Forward)
	w.back.change.Store(&to.Back)
	return nil
}

func (w *wireProcess) shape(to shapes) error {
	text, err := json.Marshal(to)
	if err != nil {
		return err
	}
	_, err = w.ask(wordShape + " " + string(text))
	return err
}

func (l *wireLink) shape(to shapes) error {
	r, ok := l.wire.(reshaper)
	if !ok {
		return errors.New("the wire cannot be changed")
	}
	return r.shape(to)
}
