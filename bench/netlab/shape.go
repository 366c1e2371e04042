package netlab

import "errors"

// shapes are what both directions of a path are to be like.
type shapes struct {
	Forward Direction `json:"forward"`
	Back    Direction `json:"back"`
}

// A reshaper is a link whose directions can change while packets cross.
type reshaper interface{ shape(shapes) error }

// Shape changes what befalls packets from now on; those under way keep their fate. The
// path must have a wire: give its Profile Emulator Wire if it has nothing that needs one.
func (l *Lab) Shape(forward, back Direction) error {
	if err := errors.Join(forward.check("forward"), back.check("back")); err != nil {
		return err
	}
	r, ok := l.link.(reshaper)
	if !ok {
		return errors.New("the path has no wire, and stays as it is; set Profile.Emulator to Wire")
	}
	return r.shape(shapes{forward, back})
}
