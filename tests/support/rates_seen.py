"""An optimizer that tells which rates its updates were made with."""

import keras


class RatesSeen(keras.optimizers.SGD):
    """Adds up, inside the compiled step, the rate that each update was made with."""

    def build(self, variables):
        super().build(variables)
        self.total = self.add_variable((), name="total")

    def apply(self, grads, trainable_variables=None):
        super().apply(grads, trainable_variables)
        self.assign_add(self.total, keras.ops.cast(self.learning_rate, "float32"))
