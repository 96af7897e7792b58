"""Training the student towards the teacher."""
