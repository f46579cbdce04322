"""SageMaker: training jobs that really run, and the model registry. moto keeps the rest."""
