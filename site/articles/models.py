"""What the newsroom is about."""

from django.db import models


class Article(models.Model):
    """Something to be read."""

    headline = models.CharField(max_length=200)
    text = models.TextField(blank=True)
    published = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-published", "headline"]

    def __str__(self) -> str:
        return self.headline


class Comment(models.Model):
    """What a reader has to say about an article."""

    article = models.ForeignKey(Article, on_delete=models.CASCADE, related_name="comments")
    author = models.CharField(max_length=100)
    text = models.TextField()
    written = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["written"]

    def __str__(self) -> str:
        return f"{self.author} on {self.article}"
